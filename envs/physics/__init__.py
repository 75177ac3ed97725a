"""One formula, one function: radio, processors, queues, allocation, random processes."""
