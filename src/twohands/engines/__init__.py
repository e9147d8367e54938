"""Other programs that run the networks: OpenVINO on processors, ONNX for elsewhere. PyTorch is the reference that both are checked against."""
