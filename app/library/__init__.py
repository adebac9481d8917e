"""What people bring and make beside runs: students registered, copied, uploaded, taught and talked to."""
