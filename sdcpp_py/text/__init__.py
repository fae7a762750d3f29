"""Text to tokens: `prompt` reads weights and cuts chunks, `_encoders` makes each text encoder's inputs."""
