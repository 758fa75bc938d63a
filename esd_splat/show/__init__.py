"""What a person looks at: pictures, videos, pages, and the live view."""
