"""Who decides: controllers of devices, gateways and servers, and the near-optimal references."""
