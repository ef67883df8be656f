// Package fake is the cloud named "fake_driver": in memory, and in every value the dummy driver of Libcloud, whose bytes
// the Orchestrator document shows. Its oddities (ids that repeat, a reboot that never ends) are part of that contract;
// knobs for tests do not belong here.
package fake
