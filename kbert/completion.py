"""Complete `kbert` in bash: commands, their flags, and the values of flags that have a closed choice.

The script asks `kbert COMMAND --help` when a flag is completed, so that it knows the flags of the version and `--task`
in use. Other values complete as file names.
"""

from collections.abc import Iterable

# Bash splits words at "=", so the line up to the cursor is split at spaces here; a reply leaves out what precedes the "=".
SCRIPT = r"""
# eval "$(kbert --completion=bash)"
_kbert() {
  local words help flag
  read -r -a words <<< "${COMP_LINE:0:COMP_POINT}x"
  local last="${words[${#words[@]} - 1]%x}"
  COMPREPLY=()
  if [ ${#words[@]} -le 2 ]; then
    COMPREPLY=($(compgen -W "COMMANDS --help --version --completion=bash" -- "$last"))
  elif [[ $last == -* ]]; then
    help=$(kbert "${words[1]}" $(printf '%s\n' "${words[@]::${#words[@]}-1}" | grep -E '^--task=[a-z_]+$') --help 2> /dev/null |
      sed -nE 's/^  (--[a-z0-9_]+)(=?)(.*)$/\1\2\3/p')
    if [[ $last == *=* ]]; then
      flag="${last%%=*}"
      COMPREPLY=($(compgen -W "$(echo "$help" | sed -nE "s/^$flag=([^A-Z]*)$/\1/p" | tr '|' ' ')" -- "${last#*=}"))
    else
      COMPREPLY=($(compgen -W "$(echo "$help" | sed -E 's/=.*/=/')" -- "$last"))
      [[ ${COMPREPLY[0]} == *= ]] && compopt -o nospace
    fi
  fi
}
complete -o default -F _kbert kbert
""".strip()


def bash(commands: Iterable[str]) -> str:
    """Return the completion script of bash."""
    return SCRIPT.replace("COMMANDS", " ".join(commands))
