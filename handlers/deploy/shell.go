package deploy

// shellOf runs a line that an app's owner wrote (a hook, a command to run) as the owner meant it, by a shell, as the app's
// user within the app's sandbox. Nothing of ours is ever put into such a line.
func shellOf(line string) []string { return []string{"/bin/sh", "-c", line} }
