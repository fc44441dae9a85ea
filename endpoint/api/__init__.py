"""The platform's HTTP APIs: InvokeEndpoint and the control plane."""
