#!/bin/sh
# Writes ADMIN_TOKEN into the file that the service reads, and prints a new token once with the address of the page.
#
#   admin-token.sh FILE URL
#
# In this order: the file of the secret `admin_token`, the variable ADMIN_TOKEN, the token that FILE has, a new token.
set -eu
# The group of the service reads the file, and nobody else.
umask 027
file=$1
url=$2
secret=${ADMIN_TOKEN_SECRET:-/run/secrets/admin_token}

given=${ADMIN_TOKEN:-}
if [ -s "$secret" ]; then
  given=$(cat "$secret")
fi

write() {
  # A reader never sees half of a token.
  printf '%s\n' "$1" >"$file.new"
  mv "$file.new" "$file"
}

echo "The page of live calls: $url"
if [ -n "$given" ]; then
  write "$given"
  echo "Its token is the ADMIN_TOKEN that you have set."
elif [ -s "$file" ]; then
  echo "Its token is that of the first start, in $file."
else
  made=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')
  write "$made"
  echo "Its token, which is kept in $file: $made"
fi
