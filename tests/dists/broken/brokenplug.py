raise RuntimeError("this plugin is broken\non two lines")
