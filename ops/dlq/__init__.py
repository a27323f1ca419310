"""`coordinator dlq …`: orders that are stuck or unknown; listed, explained, sent back, parked, settled, given up."""
