OWNER = "mine"
