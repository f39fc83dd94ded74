"""Complete `kbert` in bash and zsh: commands, their flags, and the values of flags that have a closed choice.

The scripts ask `kbert COMMAND --help` when a flag is completed, so that they know the flags of the version and `--task`
in use. Other values complete as file names.
"""

from collections.abc import Iterable

# In both shells: the flags of a command, given the words before the cursor; and of these, the values of one.
FLAGS = r"""
# eval "$(kbert --completion=SHELL)"
_kbert_flags() {
  kbert "$1" $(printf '%s\n' "$@" | grep -E '^--task=[a-z_]+$') --help 2> /dev/null |
    sed -nE 's/^  (--[a-z0-9_]+)(=?)(.*)$/\1\2\3/p'
}
_kbert_values() {
  sed -nE "s/^$1=([^A-Z]*)$/\1/p" | tr '|' ' '
}
"""
SCRIPTS = {
    # Bash splits words at "=", so the line up to the cursor is split at spaces here; a reply leaves out what precedes the "=".
    "bash": r"""
_kbert() {
  local words flags
  read -r -a words <<< "${COMP_LINE:0:COMP_POINT}x"
  local last="${words[${#words[@]} - 1]%x}"
  COMPREPLY=()
  if [ ${#words[@]} -le 2 ]; then
    COMPREPLY=($(compgen -W "FIRST" -- "$last"))
  elif [[ $last == -* ]]; then
    flags=$(_kbert_flags "${words[@]:1:${#words[@]}-2}")
    if [[ $last == *=* ]]; then
      COMPREPLY=($(compgen -W "$(echo "$flags" | _kbert_values "${last%%=*}")" -- "${last#*=}"))
    else
      COMPREPLY=($(compgen -W "$(echo "$flags" | sed -E 's/=.*/=/')" -- "$last"))
      [[ ${COMPREPLY[0]} == *= ]] && compopt -o nospace
    fi
  fi
}
complete -o default -F _kbert kbert
""",
    "zsh": r"""
_kbert() {
  local flag
  local -a flags found
  if (( CURRENT == 2 )); then
    compadd -- FIRST
  elif [[ $PREFIX == -* ]]; then
    flags=(${(f)"$(_kbert_flags ${words[2,CURRENT-1]})"})
    if [[ $PREFIX == *=* ]]; then
      flag=${PREFIX%%=*}
      compset -P '*='
      found=($(print -l -- $flags | _kbert_values $flag))
      if (( $#found )); then compadd -a found; else _files; fi
    else
      compadd -S '' -- ${${(M)flags:#*=*}/%=*/=}
      compadd -- ${flags:#*=*}
    fi
  else
    _files
  fi
}
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
compdef _kbert kbert
""",
}


def script(shell: str, commands: Iterable[str]) -> str:
    """Return the completion script of a shell, a key of `SCRIPTS`."""
    first = " ".join([*commands, "--help", "--version", f"--completion={shell}"])
    return (FLAGS.replace("SHELL", shell).lstrip() + SCRIPTS[shell].strip()).replace("FIRST", first)
