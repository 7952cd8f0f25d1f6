"""Made-up clinical-trial protocols."""
