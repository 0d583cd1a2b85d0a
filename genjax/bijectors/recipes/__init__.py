"""Published flows, put together from bijectors: of points and tables, and of images."""
