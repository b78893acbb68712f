"""From encoded images to the arrays that models take."""
