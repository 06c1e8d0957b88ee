# zsh in a guest: the user's own files are read from where they are.
_vswitch_folder=$ZDOTDIR
if [[ -n $VSWITCH_ZDOTDIR ]]; then ZDOTDIR=$VSWITCH_ZDOTDIR; else unset ZDOTDIR; fi
if [[ -r ${ZDOTDIR:-$HOME}/.zshenv ]]; then . "${ZDOTDIR:-$HOME}/.zshenv"; fi
_vswitch_theirs=${ZDOTDIR:-$HOME}
ZDOTDIR=$_vswitch_folder
