"""Text to tokens: `prompt` reads weights and cuts chunks, `_encoders` gives each text encoder what it takes."""
