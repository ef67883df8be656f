# bash completion of reeve-agent

_reeve_agent() {
	local word=${COMP_WORDS[COMP_CWORD]} command=${COMP_WORDS[1]}
	if [ "$COMP_CWORD" -eq 1 ]; then
		mapfile -t COMPREPLY < <(compgen -W "serve call enroll keygen restore-scalarizr version help" -- "$word")
		return
	fi
	case ${COMP_WORDS[COMP_CWORD - 1]} in
	--config | --key-file | --ca-file | --out)
		mapfile -t COMPREPLY < <(compgen -f -- "$word")
		return
		;;
	esac
	local flags=
	case $command in
	serve) flags="--config --listen --metrics-listen --key-file --state-dir" ;;
	call) flags="--url --key-file" ;;
	enroll) flags="--url --ca-file --ca-sha256 --address --key-file --force" ;;
	keygen) flags="--out --force" ;;
	restore-scalarizr) flags="--dry-run --config" ;;
	esac
	mapfile -t COMPREPLY < <(compgen -W "$flags" -- "$word")
}
complete -F _reeve_agent reeve-agent
