"""What `coordinator doctor` looks at: each check tells what it found and, where it isn't well, the mend."""
