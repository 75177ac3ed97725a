"""What an experiment shows: tables, figures, the report page."""
