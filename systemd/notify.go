package systemd

import (
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// NotifyReady tells systemd that the service is up, and from then on that it is alive as often as its unit's WatchdogSec
// asks. stop ends that and says that the service is going down; it is never nil. Without systemd nothing happens.
func NotifyReady() (stop func(), err error) {
	if _, err := daemon.SdNotify(false, daemon.SdNotifyReady); err != nil {
		return func() {}, err
	}
	interval, err := daemon.SdWatchdogEnabled(false)
	if err != nil || interval == 0 {
		return func() { daemon.SdNotify(false, daemon.SdNotifyStopping) }, err
	}
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(interval / 2)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				daemon.SdNotify(false, daemon.SdNotifyWatchdog)
			}
		}
	}()
	return func() {
		close(done)
		<-ended
		daemon.SdNotify(false, daemon.SdNotifyStopping)
	}, nil
}
