"""What scripts import of the XGBoost container, where it is not installed."""
