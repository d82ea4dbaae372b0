"""MobileNetV2, its ablations and its rivals: specs, networks, weights, costs, memory, lesions."""
