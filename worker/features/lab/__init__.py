"""The Lab's computations with the weights of small base models, on the CPU in float32."""
