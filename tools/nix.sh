# shellcheck shell=bash
# shellcheck disable=SC2154 # $root comes from ./dev
# Tells whether the dev shell of flake.nix comes up on this machine: Nix may be
# there without flakes, without a store, or without a way to fetch.
# Sourced by ./dev, which sets $root.

nix_options=(--extra-experimental-features 'nix-command flakes')

# A Nix whose store is empty is there to check files, as Debian's nix-bin is.
# The answer is kept until the flake changes; delete the file to ask again.
nix_shell_works() {
  compgen -G '/nix/store/*-*' >/dev/null || return
  local answer=$root/.tools/nix-shell input
  if [[ -f $answer ]]; then
    for input in "$root"/flake.nix "$root"/flake.lock "$root"/nix/*.nix; do
      [[ $input -nt $answer ]] && rm -f "$answer" && break
    done
  fi
  if [[ ! -f $answer ]]; then
    mkdir -p "$root/.tools"
    echo "castlog: preparing the Nix dev shell (log: .tools/nix-shell.log)" >&2
    if nix "${nix_options[@]}" develop "$root" --command true </dev/null >"$root/.tools/nix-shell.log" 2>&1; then
      echo works >"$answer"
    else
      echo fails >"$answer"
      echo "castlog: the Nix dev shell does not come up; going on without Nix" >&2
    fi
  fi
  [[ $(<"$answer") == works ]]
}
