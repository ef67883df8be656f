// Package keyring keeps keys: on the agent's side the one file that holds what it shares with its caller, on the
// coordinator's side the master keys that small secrets are sealed with before they are stored.
//
// # Agent
//
// A File reads the first of several paths that exists, and reads it again as soon as it changes, so that a replaced key
// takes effect with the next request. A file that others may read is refused, with the command that mends it.
//
//	keys := keyring.NewFile(envelope.ParseKey, keyring.DefaultPaths()...)
//	key, err := keys.Get()
//
// # Coordinator
//
// A Sealer turns a secret into a blob for a database column and back. The caller says what the secret is and whose; the
// blob opens only under the same description, so it cannot be moved to another row.
//
//	sealer, err := keyring.OpenSealer(filepath.Join(dataDir, "master.key"))
//	blob := sealer.Seal(nodeKey, "node.key", nodeID)
//	nodeKey, err := sealer.Open(blob, "node.key", nodeID)
//
// A blob is: one byte of version (1), eight bytes of master key id, a random nonce of 24 bytes, and the secret under
// XChaCha20-Poly1305. The header and the description are authenticated with it. Rotate adds a master key: it seals from
// then on, and all of them open. Once Stale is false for every stored blob, Retire drops the old ones.
package keyring
