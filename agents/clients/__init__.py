"""Policies of other libraries as controllers: files of Stable-Baselines3, TorchRL, BenchMARL, ONNX, or live objects."""
