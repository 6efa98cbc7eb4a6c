"""Writing a prediction: label maps, probabilities, meshes, ONNX."""
