// Package systemd talks to the init system: Manager controls units over D-Bus and waits for the result of each job.
// The service files that packages install are in units/.
//
// A Manager connects when it is first used, to the system bus or, where no bus daemon is installed, to systemd's own
// socket; it connects again after the connection died. A job that was waited for when the connection died is then judged
// by what became of the unit.
package systemd
