"""What a prediction is written as: label maps, probabilities, meshes, ONNX."""
