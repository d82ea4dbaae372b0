"""Many runs: stored on disk, run anywhere by one process at a time, compared and published as studies."""
