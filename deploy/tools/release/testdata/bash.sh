# Prints what bash completes. Arguments: the completion file, then the words of a command line.
. "$1"
shift
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
_sluice
printf '%s\n' "${COMPREPLY[@]}"
