"""Know guests: their sources and descriptions, their images, how to build and to load them."""
