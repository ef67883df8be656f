"""Reads `go test -json`: prints a line per package and the output of what failed; appends what was skipped, with the reason,
to the file named. Exits with 1 when anything failed, or when no test ran."""

import json
import sys

output, skipped, counts, failed = {}, [], {"pass": 0, "fail": 0, "skip": 0}, []
for line in sys.stdin:
    try:
        event = json.loads(line)
    except ValueError:
        print(line, end="")
        continue
    package, test, action = event.get("Package") or event.get("ImportPath", ""), event.get("Test"), event["Action"]
    key = (package, test)
    if action in ("output", "build-output"):
        output.setdefault(key, []).append(event["Output"])
    elif action == "build-fail":
        failed.append(key)
    elif test and action in counts:
        counts[action] += 1
        if action == "fail":
            failed.append(key)
        if action == "skip":
            text = " ".join(l.strip() for l in output.get(key, []) if not l.lstrip().startswith(("===", "---")))
            skipped.append("%s %s: %s" % (package, test, text))
        if action != "fail":
            output.pop(key, None)
    elif not test and action in ("pass", "fail"):
        print("%s\t%s\t%.1fs" % ("ok  " if action == "pass" else "FAIL", package, event.get("Elapsed", 0)), flush=True)
        if action == "fail":
            failed.append(key)
for key in failed:
    print("--- %s %s" % (key[0], key[1] or ""))
    text = "".join(output.get(key, []))
    print(text if len(text) <= 24000 else text[:8000] + "\n[…]\n" + text[-16000:])  # the reason may stand at either end
with open(sys.argv[1], "a") as f:
    f.writelines(l + "\n" for l in skipped)
print("%(pass)d passed, %(fail)d failed, %(skip)d skipped" % counts, flush=True)
sys.exit(1 if failed or counts["pass"] == 0 else 0)
