"""What-if questions: traces of jobs in and out, played through the scheduler; reports and plots of what would be."""
