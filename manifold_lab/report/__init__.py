"""Published numbers to tables, figures, texts and the page of the report."""
