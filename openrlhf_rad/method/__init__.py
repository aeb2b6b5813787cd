"""The method: spectrum → weights → particles → transport → constraint → scores → baseline → dual → step."""
