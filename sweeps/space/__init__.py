"""What is searched: dimensions, conditions, points, and the configs that they compose."""
