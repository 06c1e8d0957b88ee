# zsh in a guest: what the user has set up, then the guest's name before every prompt.
ZDOTDIR=$_vswitch_theirs
if [[ -r $ZDOTDIR/.zshrc ]]; then . "$ZDOTDIR/.zshrc"; fi
_vswitch_prompt() { [[ $PROMPT == "$VSWITCH_PROMPT"* ]] || PROMPT=$VSWITCH_PROMPT$PROMPT }
precmd_functions+=(_vswitch_prompt)
