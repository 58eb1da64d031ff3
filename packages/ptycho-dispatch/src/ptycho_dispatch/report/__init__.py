"""One finished run as one HTML page that carries everything it shows."""
