"""What may be brought: sealed releases, what is known of vulnerabilities, quarantine, waivers."""
