"""What each format makes of a quantization: the same integers in TFLite, ONNX and Core ML."""
