# What is planted in trials' processes must not be imported here; the others start at once.
collect_ignore_glob = ["planted/*", "__main__.py", "probe.py"]
