"""Tables of a study, error measures, screening, published numbers and the summary."""
