"""What a study has found."""
