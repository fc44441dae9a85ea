raise RuntimeError("raised while the module was imported")
