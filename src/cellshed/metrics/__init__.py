"""How well predicted cells agree with true ones: counts first, ratios last."""
