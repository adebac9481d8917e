"""What a tutor is asked, and what may pass from its answer to the self-teacher."""
