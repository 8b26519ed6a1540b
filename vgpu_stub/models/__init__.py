"""Makes small language models of random weights, as GGUF files that llama.cpp runs."""
