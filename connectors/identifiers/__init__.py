"""What still tells who somebody is, found by content: check digits, images, templates, in the rows about to leave."""
