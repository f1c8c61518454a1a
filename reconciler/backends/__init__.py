"""Where processes run: the words to the launcher, the socket to it, the files its children write."""
