// Package gitssh keeps the repositories of apps and serves them over SSH: a push to the branch master or main builds and
// deploys, while what happens is streamed to who pushes, and is refused as a whole when that fails.
//
// A login of an app's node (a number) reaches the repositories of that app alone, with the login's keys or password. Its pushes
// are stored; the command "deploy <repository>.git [branch]" deploys. They are called default.git, for the app, and by a host name
// what is for that name alone.
//
// Who may do what: a key is its account's; the account that the successful authentication names, and nothing that the client
// says later, decides what apps can be reached. Programs are git's own, run with argument vectors and an environment of ours.
// The hook is the coordinator's binary under another name: it hands the pushed refs to the server over a socket, with a token
// that is good for that push, and prints what comes back.
//
//	<dir>/<app id>.git     bare repositories, made at the first use, removed when the app is gone
//	<dir>/<app id>.<host name>.git   likewise
//	<dir>/hooks/pre-receive -> the coordinator's binary
//	<dir>/hook.sock        for the hook
package gitssh
