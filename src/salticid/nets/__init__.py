"""Networks of the recipes, as plain modules."""
